"""modelkit within other libraries; no module here knows another."""
