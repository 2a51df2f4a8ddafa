"""Why a Model gave an output: exact Shapley values where possible, sampled ones elsewhere."""
