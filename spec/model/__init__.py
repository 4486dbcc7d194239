"""The whole system as a Spin model and as traces, which are checked independently of the code."""
