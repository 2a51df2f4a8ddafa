"""Why a Model gave an output: exact Shapley values where the graph allows them, sampled ones elsewhere."""
