"""Grades nbgrader submissions: isolated, in parallel, and still nbgrader's.

Three stages: `prepare` makes a job of a submission (it has the gradebook), `execute` runs a job
(bytes in, bytes out; it sees nothing else), `record` writes the result through nbgrader's own
autograding (one writer).
"""
