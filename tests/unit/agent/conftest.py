from hypothesis import settings

# A busy machine is no failure of the code; pytest's own time-out bounds a test.
settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")
