"""The paper's experiments, a module a table or figure."""
