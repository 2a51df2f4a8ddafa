#!/usr/bin/env bash
# Boots systemd with one unit, in namespaces of its own: boot_systemd.sh FOLDER UNIT PACKAGE, as the first process of
#   unshare --pid --fork --kill-child --mount --cgroup --uts --ipc --net
# What it writes goes to a layer above this system, in memory. The environment of the caller, without its home,
# stands at /opt/modelkit, as the unit has it: PYTHON is run, and SITE is where its libraries are.
set -euo pipefail
folder=$1 unit=$2 package=$3

mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
cd "$folder"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" root
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,ro,bind root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t tmpfs tmpfs root/sys/fs/cgroup
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs tmpfs "root/$place"; done
for device in null zero full random urandom tty; do cp -a "/dev/$device" root/dev/; done
mkdir root/dev/shm root/dev/pts
mount -t devpts devpts root/dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx root/dev/ptmx

mkdir -p root/opt/modelkit/bin root/opt/modelkit/lib root/opt/modelkit/src root/srv/modelkit root/etc/test-units
mount --bind "$SITE/../.." root/opt/modelkit/lib
mount --bind "$SOURCE" root/opt/modelkit/src
ln -s "$PYTHON" root/opt/modelkit/bin/python
echo "home = $(dirname "$PYTHON")" > root/opt/modelkit/pyvenv.cfg
printf '#!/opt/modelkit/bin/python\nimport sys\nsys.path.insert(0, "/opt/modelkit/src")\nfrom modelkit.cli import main\nsys.exit(main())\n' \
    > root/opt/modelkit/bin/modelkit
chmod 755 root/opt/modelkit/bin/modelkit
install -m 644 "$package" root/srv/modelkit/tumour.mk
cp "$unit" root/etc/test-units/modelkit.service
# The targets that every service asks for would start all else that is installed here.
for target in sysinit basic shutdown network multi-user start; do
    printf '[Unit]\nDefaultDependencies=no\n' > "root/etc/test-units/$target.target"
done

ip link set lo up
cd root
mkdir -p .old
pivot_root . .old
exec env -i container=lxc SYSTEMD_UNIT_PATH=/etc/test-units PATH="$PATH" chroot . /bin/sh -c \
    'umount -l /.old; exec /lib/systemd/systemd --system --unit=start.target --show-status=0'
