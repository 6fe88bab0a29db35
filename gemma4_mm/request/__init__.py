"""What a call asks for: arguments read and checked, before any medium is opened."""
