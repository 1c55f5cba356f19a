"""What a fit is asked for, decided and made of: settings, jobs of one network or of tiles, and `plan`."""
