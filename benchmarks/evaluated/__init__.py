"""What is evaluated. The only folder of the suite that workers import from."""
