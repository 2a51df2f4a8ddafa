"""A package as a function of a batch, for engines that run it in other processes and machines."""
