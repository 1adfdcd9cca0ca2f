"""The contact sheet: the layout of its rows and columns, its tiles, and their drawing."""
