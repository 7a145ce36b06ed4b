"""Tests of one attempt of a job."""
