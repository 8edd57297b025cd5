"""One preset a file: its docstring has the question, the command and the result to expect."""
