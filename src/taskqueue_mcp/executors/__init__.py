"""What carries tasks out: one executor a file, each given validated parameters and one attempt's `Run`."""
