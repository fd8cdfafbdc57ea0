"""Whether a winner that has been deployed does what its trial did."""
