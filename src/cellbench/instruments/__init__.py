"""What instruments are to the rest of cellbench: roles, techniques, readings, capabilities."""
