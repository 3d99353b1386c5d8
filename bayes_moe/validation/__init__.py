"""Forecasts held to what came: rolling origins, and scores of rows by those before them."""
