"""The same service with Django and Django REST framework."""
