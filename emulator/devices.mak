# The devices of a guest of `sim`, and no other.
CONFIG_Q35=y
CONFIG_VIRTIO_PCI=y
CONFIG_VHOST_USER_VSOCK=y
