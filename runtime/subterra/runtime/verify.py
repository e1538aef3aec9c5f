"""`subterra verify`: check a bundle's signature and every file, offline.

$ subterra verify zoom_support.agent --key signing.pub
"""

import argparse
import json
import sys
from pathlib import Path

from subterra.runtime.bundle import Bundle, open_bundle
from subterra.runtime.errors import SubterraError
from subterra.runtime.signing import PUBLIC_NAME, config_folder, load_verify_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra verify`."""
    parser.add_argument("bundle", type=Path, help="the folder NAME.agent")
    parser.add_argument("--key", type=Path, help="the author's public key (signing.pub)")
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a missing signature")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Verify a bundle and say who signed it and how that is known.

    Raises:
        BundleError: the bundle is incomplete or changed.
        SignatureError: unsigned, wrongly signed, or signed with another key.
    """
    key = load_verify_key(args.key) if args.key else None
    bundle = open_bundle(args.bundle, key=key, allow_unsigned=args.allow_unsigned)
    origin = _origin(bundle)
    if args.json:
        print(json.dumps(_document(bundle, origin), indent=2))
    manifest = bundle.manifest
    variants = ", ".join(variant.name for variant in manifest.variants)
    print(f"{manifest.name}: {manifest.title}", file=sys.stderr)
    print(f"  files      {len(manifest.files)} match, none extra", file=sys.stderr)
    print(f"  variants   {variants} (default {manifest.default_variant})", file=sys.stderr)
    if bundle.table:
        nodes = len(bundle.table.nodes)
        print(f"  held to    the legal transitions between {nodes} nodes", file=sys.stderr)
    print(f"  signature  {_sentence(bundle, origin)}", file=sys.stderr)
    for host in manifest.teacher.disclosed_to:
        print(f"  disclosed  the procedure was sent to {host} while compiling", file=sys.stderr)
    print(f"next: subterra prove {args.bundle}", file=sys.stderr)
    return 0


def _origin(bundle: Bundle) -> str:
    if bundle.signer is None:
        return "unsigned"
    if bundle.pinned:
        return "pinned"
    try:
        own = load_verify_key(config_folder() / PUBLIC_NAME)
    except SubterraError:
        return "embedded"
    return "own" if own == bundle.signer else "embedded"


def _sentence(bundle: Bundle, origin: str) -> str:
    if bundle.signer is None:
        return "none: anybody may have changed this agent"
    fingerprint = bundle.signer.fingerprint
    return {
        "pinned": f"made with the given key, {fingerprint}",
        "own": f"made with this machine's own key, {fingerprint}",
        "embedded": f"made with {fingerprint}, the key inside the bundle: unchanged since sealing, "
        "but by whom is for you to compare (--key signing.pub checks it)",
    }[origin]


def _document(bundle: Bundle, origin: str) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "verified": bundle.signer is not None,
        "name": manifest.name,
        "origin": origin,
        "key_id": bundle.signer.key_id if bundle.signer else None,
        "files": len(manifest.files),
        "variants": [variant.name for variant in manifest.variants],
        "default_variant": manifest.default_variant,
        "constrained": manifest.constrained,
        "disclosed_to": list(manifest.teacher.disclosed_to),
    }
