"""Changes to an image: plan, identity, mount, inject, proof."""
