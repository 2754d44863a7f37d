"""The routers under ``/api/v1``, one file per noun; ``models.py`` holds the shapes of the replies."""
