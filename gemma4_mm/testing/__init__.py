"""For other projects' test-suites: Hypothesis strategies (`strategies`) and a pytest plugin (`plugin`)."""
