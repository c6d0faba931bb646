"""What is made in a cluster for Gateways and pools: Envoy's and the pickers' Deployments, their Services and so on."""

from translators.infrastructure.accounts import Account, accounts
from translators.infrastructure.objects import (
    GATEWAY_CLASS_LABEL,
    GATEWAY_NAME_LABEL,
    GATEWAY_NAMESPACE_LABEL,
    HASH_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ClientCertificate,
    Infrastructure,
    Made,
)
from translators.infrastructure.pickers import PICKER_NAME_LABEL
from translators.infrastructure.provision import GatewayNeeds, PickerNeeds, Provision, provision

__all__ = [
    "GATEWAY_CLASS_LABEL",
    "GATEWAY_NAMESPACE_LABEL",
    "GATEWAY_NAME_LABEL",
    "HASH_ANNOTATION",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "PICKER_NAME_LABEL",
    "Account",
    "ClientCertificate",
    "GatewayNeeds",
    "Infrastructure",
    "Made",
    "PickerNeeds",
    "Provision",
    "accounts",
    "provision",
]
