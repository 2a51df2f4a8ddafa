"""The `.mk` file: container, graph scan, saving and loading."""
