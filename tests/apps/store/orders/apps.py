"""The app's configuration, named by its class in the settings."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """The orders."""

    name = "store.orders"
