/**
 * The executable on a device with almost nothing: a root with the C and C++ libraries alone, mounts without exec, and
 * scripts/check-device where it cannot run. In private namespaces, and nothing of the machine is written.
 *
 *   private mount namespace ── tmpfs ── lib*, edgemesh (bound), proc, dev/shm, run, tmp ── chroot ── edgemesh
 */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { executableOf, hostArchitecture, root, runCommand } from './executables.ts'

/** The files that the dynamic linker loads for a program, by absolute path. */
function librariesOf(file: string): string[] {
  return [...runCommand(['ldd', file]).stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path)
}

function whereIs(command: string): string {
  return runCommand(['sh', '-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${command}`]).stdout.trim()
}

suite('in a root with glibc, libstdc++ and libgcc alone', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'edgemesh-root-'))
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  const prepare = `
    root=$1 executable=$2; shift 2
    mount -t tmpfs tmpfs "$root"; cd "$root"
    mkdir -p dev/shm run tmp proc var/lib etc
    mount -t proc proc proc
    : > edgemesh; mount --bind "$executable" edgemesh
    copy() { for file; do mkdir -p ".\${file%/*}"; cp -L "$file" ".$file"; done; }
    noexec() { for folder; do mkdir -p "$folder"; mount -t tmpfs -o noexec tmpfs "$folder"; done; }`

  /** Runs a shell script in the new root's folder, outside of it; `chroot .` enters it. */
  function runInRoot(script: string, ...files: string[]) {
    const executable = executableOf(hostArchitecture)
    const libraries = [...new Set([executable, ...files].flatMap(librariesOf))]
    const copies = [...libraries, ...files].map((file) => `copy ${file}`).join('\n')
    const whole = `set -eu\n${prepare}\n${copies}\n${script}`
    return runCommand([join(root, 'scripts', 'isolated'), 'sh', '-c', whole, 'sh', folder, executable])
  }

  test('it starts and checks a configuration', () => {
    const { stdout, stderr, status } = runInRoot(`
      printf 'kind: EdgeMeshAgent\\nnodeName: device\\n' > etc/agent.yaml
      find . -xdev -name '*.so*' | sed 's|.*/||' | sort | tr '\\n' ' '; echo
      chroot . /edgemesh --version
      chroot . /edgemesh check-config --skip-files /etc/agent.yaml`)
    const [libraries = '', version = '', ...rest] = stdout.split('\n')
    assert.equal(status, 0, stderr)
    assert.match(
      libraries,
      /^ld-linux-\S+ libc\.so\.6 libdl\.so\.2 libgcc_s\.so\.1 libm\.so\.6 libpthread\.so\.0 libstdc\+\+\.so\.6 $/,
    )
    assert.match(version, /^edgemesh \d/)
    assert.match(rest.join('\n'), /^\/etc\/agent\.yaml: ok/)
  })

  const nft = whereIs('nft')

  test('it loads its native code where /tmp, /run and /dev/shm are mounted noexec', () => {
    const { stdout, stderr, status } = runInRoot(
      'noexec tmp run dev/shm; chroot . /edgemesh cleanup; ls -A var/lib/edgemesh',
      nft,
    )
    assert.equal(stderr, '')
    assert.equal(status, 0)
    assert.match(stdout, /^removed: .*\n$/)
  })

  test('it names noexec and the remedy where no folder will do, and takes the folder it is given', () => {
    const nowhere = 'noexec tmp run dev/shm var/lib/edgemesh; chroot . /edgemesh cleanup'
    const { stderr, status } = runInRoot(nowhere, nft)
    assert.equal(status, 71)
    for (const place of ['/dev/shm', '/var/lib/edgemesh', '/tmp', '/run']) {
      assert.ok(stderr.includes(`${place}: it is mounted noexec`), stderr)
    }
    assert.match(stderr, /set EDGEMESH_ADDON_DIR to a folder on a mount without noexec\n$/)
    const somewhere = nowhere.replace('chroot', 'mkdir opt; EDGEMESH_ADDON_DIR=/opt chroot')
    assert.equal(runInRoot(somewhere, nft).status, 0)
  })
})

suite('scripts/check-device', () => {
  let bin = ''
  before(() => {
    bin = mkdtempSync(join(tmpdir(), 'edgemesh-device-'))
  })
  after(() => rmSync(bin, { recursive: true, force: true }))

  /** Runs it as on a device whose commands answer what is given. */
  function check(answers: Readonly<Record<string, string>>, ...args: string[]) {
    const folder = mkdtempSync(join(bin, 'bin-'))
    mkdirSync(folder, { recursive: true })
    const usual = { uname: 'case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac', getconf: 'exit 1', ldd: 'exit 1' }
    for (const [name, script] of Object.entries({ ...usual, ...answers })) {
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
      chmodSync(join(folder, name), 0o755)
    }
    const argv = ['sh', join(root, 'scripts', 'check-device'), ...args]
    const { stdout, stderr, status } = runCommand(argv, { PATH: `${folder}:/usr/bin:/bin` })
    assert.equal(stderr, '')
    return { status, missing: stdout.split('\n').filter((line) => line.startsWith('MISSING')), stdout }
  }

  const glibc = (version: string) => `case $1 in GNU_LIBC_VERSION) echo glibc ${version} ;; LONG_BIT) echo 64 ;; esac`

  test('is content with this machine', () => {
    const { stdout, status } = runCommand(['sh', join(root, 'scripts', 'check-device')])
    assert.equal(status, 0, stdout)
    assert.match(stdout, /edgemesh can run here\n$/)
  })

  test('tells musl from glibc', () => {
    const { status, missing } = check({ ldd: 'echo "musl libc (x86_64)" >&2; exit 1' }, 'server')
    assert.equal(status, 1)
    assert.equal(missing.length, 1)
    assert.match(missing[0] ?? '', /glibc 2\.28: this system has musl instead/)
  })

  test('says which glibc there is and which is needed', () => {
    for (const version of ['2.17', '2.27']) {
      const { status, missing } = check({ getconf: glibc(version) }, 'server')
      assert.equal(status, 1)
      assert.match(missing.join(), new RegExp(`glibc 2\\.28 or newer .*: this system has ${version}$`))
    }
    for (const version of ['2.28', '2.31', '2.41']) {
      assert.equal(check({ getconf: glibc(version) }, 'server').status, 0, version)
    }
  })

  test('reads the version from ldd where there is no getconf', () => {
    assert.equal(check({ ldd: 'echo "ldd (Debian GLIBC 2.36-9) 2.36"' }, 'server').status, 0)
    assert.equal(check({ ldd: 'echo "ldd (GNU libc) 2.17"' }, 'server').status, 1)
  })

  test('refuses other processors, and 32-bit systems on 64-bit kernels', () => {
    const machine = (name: string) => `case $1 in -m) echo ${name} ;; *) echo Linux ;; esac`
    const armv7 = check({ uname: machine('armv7l'), getconf: glibc('2.36') }, 'server')
    assert.match(armv7.missing.join(), /this is Linux on armv7l/)
    const mixed = check(
      { uname: machine('aarch64'), getconf: 'case $1 in LONG_BIT) echo 32 ;; *) echo glibc 2.36 ;; esac' },
      'server',
    )
    assert.match(mixed.missing.join(), /the kernel is aarch64, but the programs on it are 32-bit/)
    assert.match(
      check({ uname: machine('aarch64'), getconf: glibc('2.36') }, 'server').stdout,
      /copy edgemesh-linux-arm64/,
    )
  })
})
