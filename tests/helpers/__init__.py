"""What several test files share: models to convert, packages to forge, encoders, and children to run them in."""
