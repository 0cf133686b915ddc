"""Django: settings, apps, database connections, and tasks that are sent when a transaction commits."""
