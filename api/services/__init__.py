"""Work behind the routes: database queries, validation and background tasks."""
