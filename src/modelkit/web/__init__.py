"""The web edge: HTTP requests for Models, behind any server."""
