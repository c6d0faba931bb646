"""Kinds of which nothing is read but that they are there and their metadata: those that are made, and definitions."""

from resources.meta import Object


class ServiceAccount(Object, frozen=True, kw_only=True):
    """The identity of pods."""

    GROUP = ""
    KIND = "ServiceAccount"
    VERSIONS = ("v1",)
    LENIENT = True


class DaemonSet(Object, frozen=True, kw_only=True):
    """A pod on each node."""

    GROUP = "apps"
    KIND = "DaemonSet"
    VERSIONS = ("v1",)
    LENIENT = True


class HorizontalPodAutoscaler(Object, frozen=True, kw_only=True):
    """Sets the number of a Deployment's pods."""

    GROUP = "autoscaling"
    KIND = "HorizontalPodAutoscaler"
    VERSIONS = ("v2",)
    LENIENT = True


class PodDisruptionBudget(Object, frozen=True, kw_only=True):
    """How many pods may be evicted at once."""

    GROUP = "policy"
    KIND = "PodDisruptionBudget"
    VERSIONS = ("v1",)
    LENIENT = True


class CustomResourceDefinition(Object, frozen=True, kw_only=True):
    """What an API server knows of a kind."""

    GROUP = "apiextensions.k8s.io"
    KIND = "CustomResourceDefinition"
    VERSIONS = ("v1",)
    NAMESPACED = False
    LENIENT = True
