"""Rewards: plain functions on one question's group of answers, and their mix by route."""
