"""The live view: the reports' pages and what is going on, for a browser on the same machine."""
