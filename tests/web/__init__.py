"""Tests of cellbench serve: real servers, real HTTP."""
