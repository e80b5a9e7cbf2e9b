"""Measure: how near is a prediction to the truth?"""
