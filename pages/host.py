"""Host: who is training and who waits, for the person whose computer serves the class."""

from playground import host_view

if host_view.is_host():
    host_view.draw()
else:
    host_view.refuse()
