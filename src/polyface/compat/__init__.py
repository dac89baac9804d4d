"""The interfaces of other projects, so that code written for them runs on polyface; one package a project."""
