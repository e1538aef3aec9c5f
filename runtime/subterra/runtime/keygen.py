"""`subterra keygen`: make the key that seals an author's agents.

$ subterra keygen
"""

import argparse
import json
import sys
from pathlib import Path

from subterra.runtime.signing import PUBLIC_NAME, SigningKey, config_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra keygen`."""
    parser.add_argument("--out", type=Path, help="folder of the key (default: the settings folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Make a key and say where it is.

    Raises:
        SignatureError: there is a key already.
        ResourceError: the folder is not writable.
    """
    key = SigningKey.generate()
    private = key.save(args.out or config_folder())
    public = private.with_name(PUBLIC_NAME)
    if args.json:
        document = {"private": str(private), "public": str(public), "key_id": key.public.key_id}
        print(json.dumps(document, indent=2))
    print(f"private key  {private} (keep it, share it with nobody)", file=sys.stderr)
    print(f"public key   {public} (give it to whoever verifies)", file=sys.stderr)
    print(f"fingerprint  {key.public.fingerprint}", file=sys.stderr)
    print(f"next: subterra seal build/NAME --key {private}", file=sys.stderr)
    return 0
