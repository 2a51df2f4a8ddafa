"""modelkit within other libraries.

`families` and `shown` are what Prometheus and OpenTelemetry show, `scorer` is what Ray, Spark and Dask run.
"""
