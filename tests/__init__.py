"""The tests of portwatch."""
