"""What a run is doing, shown live: a page in Dask's dashboard, and metrics for Prometheus."""
