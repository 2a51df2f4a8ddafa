"""Files and objects that are created once: a folder, or a bucket of objects."""
