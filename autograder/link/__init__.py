"""Calls between the student's process and the tests' process."""
