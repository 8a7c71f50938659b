"""Stage 3: makes of a result the outputs that nbgrader scores and people see."""
