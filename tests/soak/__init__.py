"""`make soak`: ports come and go for as long as you like, and the agents hold no more at the end than before."""
