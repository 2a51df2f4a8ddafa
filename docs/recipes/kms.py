"""Seal packages by a key of AWS KMS: the data key is wrapped and unwrapped there, and nowhere else.

    pip install boto3

    mk.seal("churn.mk", {"kms": Kms("alias/models").wrap}, out="churn.sealed.mk")
    mk.load("churn.sealed.mk", unseal=Kms("alias/models").unwrap)

Who seals needs kms:Encrypt, who loads kms:Decrypt. KMS writes each call into CloudTrail, with the
encryption context. A Model that is loaded so is pickled as the name of the key: a process that
opens the pickle asks KMS with its own credentials.
"""

from __future__ import annotations

from dataclasses import dataclass

import boto3


@dataclass(frozen=True)
class Kms:
    """A key of KMS by its id, ARN or alias, and the name of the recipient that it stands for."""

    key: str
    recipient: str = "kms"

    def wrap(self, data_key: bytes) -> bytes:
        """For `mk.seal`."""
        answer = boto3.client("kms").encrypt(
            KeyId=self.key, Plaintext=data_key, EncryptionContext=self._context()
        )
        return answer["CiphertextBlob"]

    def unwrap(self, wrapped: bytes, recipient: str) -> bytes | None:
        """For `mk.load(unseal=)`; None for a recipient that is another one."""
        if recipient != self.recipient:
            return None
        answer = boto3.client("kms").decrypt(
            KeyId=self.key, CiphertextBlob=wrapped, EncryptionContext=self._context()
        )
        return answer["Plaintext"]

    def _context(self) -> dict[str, str]:
        return {"purpose": "modelkit seal", "recipient": self.recipient}
