"""A bundle timed on a phone that is connected by USB: adb, and the app's benchmark."""
