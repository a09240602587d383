"""Raw data sets into webdataset shards with a manifest; verify, inspect, procedural faces."""
