/**
 * The lab itself: what can reach what, and that nothing of it stays.
 *
 *                      wan 203.0.113.0/24 ── resolver .53
 *          ┌──────────────┬───────────────┬────────────────┐
 *      cloud-1 .100    router-a .10    router-b .11     router-c .12
 *                      port-preserving randomising      no NAT
 *                  192.168.1.0/24      192.168.1.0/24   192.168.3.0/24      a and b have the same network
 *                 ┌────┴────┐             │                │
 *             edge-a1    edge-a2       edge-b1          edge-c1
 *             .11  │     .12           .11 │             .11
 *            10.244.1.0/24          172.17.0.0/16
 *              │      │                │
 *            web     client         remote
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { agentSchema, serverSchema } from '../../src/config/index.ts'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabSpec,
  planLab,
  publicPathOf,
  runHalfCloseClient,
  serviceManifest,
  sha256OfTestBytes,
  startTestServer,
} from '../lab/index.ts'

const root = resolve(import.meta.dirname, '../..')
const isolated = join(root, 'scripts/isolated')

const spec: LabSpec = {
  cloud: ['cloud-1'],
  lans: {
    a: {
      nat: 'port-preserving',
      subnet: '192.168.1.0/24',
      nodes: { 'edge-a1': { pods: ['web', 'client'], podBridge: '10.244.1.0/24', bridgeNf: false }, 'edge-a2': {} },
    },
    b: {
      nat: 'randomising',
      subnet: '192.168.1.0/24',
      nodes: { 'edge-b1': { pods: ['remote'], podBridge: '172.17.0.0/16' } },
    },
    c: { nat: 'none', nodes: ['edge-c1'] },
  },
}

async function outputOf(host: Host, ...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.exec(argv)
  assert.equal(code, 0, `${host.name}: ${argv.join(' ')}: ${stderr}`)
  return stdout.trim()
}

async function canReach(from: Host, address: string, port = 80, timeoutSeconds = 0.5): Promise<boolean> {
  const { code } = await from.exec(['curl', '-s', '--max-time', `${timeoutSeconds}`, `http://${address}:${port}/`])
  return code === 0
}

/** After a cut, ARP and TCP need up to two seconds to try again. */
function canReachAgain(from: Host, address: string): Promise<boolean> {
  return canReach(from, address, 80, 5)
}

/** The source port that the cloud sees for a connection from this local port. */
async function seenPortOf(lab: Lab, node: string, localPort: number): Promise<number> {
  const url = `http://${lab.node('cloud-1').address}/client`
  const seen = await outputOf(lab.node(node), 'curl', '-s', '--local-port', `${localPort}`, url)
  return Number(seen.split(':')[1])
}

/** All processes that descend from this one, as seen here. */
function descendantsOf(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry) => ({ pid: Number(entry), parent: parentOf(entry) }))
  const children = parents.filter(({ parent }) => parent === pid).map((process) => process.pid)
  return children.flatMap((child) => [child, ...descendantsOf(child)])
}

function parentOf(pid: string): number | undefined {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return undefined // It has ended since the folder was listed.
  }
}

async function untilGone(pids: readonly number[]): Promise<readonly number[]> {
  let left = pids
  for (let attempt = 0; attempt < 200 && left.length > 0; attempt++) {
    left = left.filter((pid) => existsSync(`/proc/${pid}`))
    await delay(10)
  }
  return left
}

suite('a lab of one cloud node and three LANs', () => {
  let lab: Lab
  let buildMs = 0
  before(async () => {
    const start = performance.now()
    lab = await createLab(spec)
    buildMs = performance.now() - start
    await Promise.all(
      ['cloud-1', 'edge-a1', 'edge-a2', 'edge-c1'].map((name) => startTestServer(lab.node(name), 'http', { port: 80 })),
    )
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  test('comes up in about a second', (t) => {
    t.diagnostic(`${Math.round(buildMs)} ms`)
    assert.ok(buildMs < 3_000, `it took ${buildMs} ms`)
  })

  test('hosts of one LAN reach each other', async () => {
    assert.equal(await outputOf(lab.node('edge-a1'), 'curl', '-s', `http://${lab.node('edge-a2').address}/`), 'edge-a2')
    assert.equal(await outputOf(lab.node('edge-a2'), 'curl', '-s', `http://${lab.node('edge-a1').address}/`), 'edge-a1')
  })

  test('every LAN reaches the cloud, seen there with the address of its router', async () => {
    const url = `http://${lab.node('cloud-1').address}/client`
    for (const [node, source] of [
      ['edge-a1', lab.router('a').address],
      ['edge-b1', lab.router('b').address],
      ['edge-c1', lab.node('edge-c1').address],
    ] as const) {
      assert.equal((await outputOf(lab.node(node), 'curl', '-s', url)).split(':')[0], source, node)
    }
  })

  test('nothing comes in uninvited through a NAT, neither to the router nor to a node behind it', async () => {
    await startTestServer(lab.router('a'), 'http', { port: 80 })
    const [cloud, edge, router] = [lab.node('cloud-1'), lab.node('edge-a2'), lab.router('a')]
    // Even a neighbour on the WAN that knows the way does not get in.
    await outputOf(cloud, 'ip', 'route', 'add', '192.168.1.0/24', 'via', router.address)
    const reached = [
      [edge, router],
      [cloud, router],
      [cloud, edge],
      [cloud, lab.node('edge-c1')],
    ] as const
    assert.deepEqual(await Promise.all(reached.map(([from, to]) => canReach(from, to.address))), [
      true,
      false,
      false,
      true,
    ])
    await outputOf(cloud, 'ip', 'route', 'del', '192.168.1.0/24')
  })

  test('two LANs with the same network do not see each other', async () => {
    assert.equal(lab.node('edge-a1').address, lab.node('edge-b1').address)
    const edge = lab.node('edge-b1')
    const others = [lab.node('edge-a2'), lab.router('a'), lab.pod('web')]
    assert.deepEqual(await Promise.all(others.map((host) => canReach(edge, host.address))), [false, false, false])
  })

  test('a port-preserving NAT keeps source ports and a randomising one changes them each time', async () => {
    assert.deepEqual(
      [await seenPortOf(lab, 'edge-a1', 40_001), await seenPortOf(lab, 'edge-a1', 40_002)],
      [40_001, 40_002],
    )
    const ports = [await seenPortOf(lab, 'edge-b1', 40_001), await seenPortOf(lab, 'edge-b1', 40_002)]
    assert.notDeepEqual(ports, [40_001, 40_002])
    assert.notEqual((ports[1] ?? 0) - (ports[0] ?? 0), 1)
  })

  test('pods reach their neighbours, their node and the cloud, and are reached only from their node', async () => {
    const [web, client, remote] = [lab.pod('web'), lab.pod('client'), lab.pod('remote')]
    await startTestServer(web, 'http', { port: 8080 })
    for (const [from, address, port] of [
      [client, web.address, 8080],
      [client, lab.node('edge-a1').address, 80],
      [client, lab.node('cloud-1').address, 80],
      [remote, lab.node('cloud-1').address, 80],
      [lab.node('edge-a1'), web.address, 8080],
    ] as const) {
      assert.equal(await canReach(from, address, port), true, `${from.name} to ${address}`)
    }
    assert.equal(await canReach(lab.node('edge-a2'), web.address, 8080), false)
    assert.equal(await canReach(remote, web.address, 8080), false)
  })

  test('nodes resolve through the resolver on the WAN; pods have the resolver of a cluster', async () => {
    const node = lab.node('edge-b1')
    assert.equal(await outputOf(node, 'dig', '+short', 'upstream.example'), '198.51.100.7')
    assert.match(await outputOf(node, 'dig', 'nothing.example'), /status: NXDOMAIN/)
    const big = await outputOf(node, 'dig', '+short', 'big.upstream.example', 'TXT')
    assert.ok(big.length > 3_000)
    assert.match(await outputOf(node, 'dig', '+ignore', 'big.upstream.example', 'TXT'), /flags: [a-z ]*tc/)
    const file = await outputOf(lab.pod('web'), 'cat', '/etc/resolv.conf')
    assert.match(file, /^nameserver 169\.254\.96\.16$/m)
    assert.match(file, /^search default\.svc\.cluster\.local svc\.cluster\.local cluster\.local$/m)
    assert.match(file, /^options ndots:5$/m)
  })

  test('nodes have the kernel settings that were asked for', async () => {
    const node = lab.node('edge-a1')
    assert.equal(await outputOf(node, 'cat', '/proc/sys/net/ipv4/ip_forward'), '1')
    assert.equal(await outputOf(node, 'cat', '/proc/sys/net/ipv4/conf/all/rp_filter'), '1')
    const bridgeNf = '/proc/sys/net/bridge/bridge-nf-call-iptables'
    if (existsSync(bridgeNf)) assert.equal(await outputOf(node, 'cat', bridgeNf), '0')
  })

  test('a LAN that is cut off keeps its inside, and gets the WAN back', async () => {
    const [edge, cloud] = [lab.node('edge-a1'), lab.node('cloud-1').address]
    await lab.cutWan('a')
    const during = [
      canReach(edge, cloud),
      canReach(edge, lab.node('edge-a2').address),
      canReach(lab.node('edge-b1'), cloud),
    ]
    assert.deepEqual(await Promise.all(during), [false, true, true])
    await lab.restoreWan('a')
    assert.equal(await canReachAgain(edge, cloud), true)
    await lab.cutWan('cloud-1')
    assert.equal(await canReach(lab.node('edge-b1'), cloud), false)
    await lab.restoreWan('cloud-1')
    assert.equal(await canReachAgain(lab.node('edge-b1'), cloud), true)
  })

  test('an established connection survives a cut of the WAN', async () => {
    const cloud = lab.node('cloud-1')
    await startTestServer(cloud, 'echo', { port: 7 })
    const script = `exec 3<>/dev/tcp/${cloud.address}/7; echo one >&3; head -1 <&3; read -r _ < "$0"; echo two >&3; head -1 <&3`
    const fifo = join(lab.node('edge-a1').dir, 'go-on')
    await outputOf(lab.node('edge-a1'), 'mkfifo', fifo)
    const talk = lab.node('edge-a1').spawn(['bash', '-c', script, fifo])
    await talk.waitForLine(/one/)
    await lab.cutWan('a')
    await outputOf(lab.node('edge-a1'), 'sh', '-c', `echo > ${fifo}`)
    await lab.restoreWan('a')
    await talk.waitForLine(/two/)
    assert.deepEqual(await talk.exited, { code: 0, signal: null })
  })

  test('large bodies arrive whole both ways', async () => {
    const [edge, url] = [lab.node('edge-b1'), `http://${lab.node('cloud-1').address}`]
    const [count, expected] = [8_000_000, sha256OfTestBytes(8_000_000, 3)]
    const down = await outputOf(edge, 'sh', '-c', `curl -s "${url}/bytes?n=${count}&seed=3" | tee body | sha256sum`)
    assert.equal(down.split(' ')[0], expected)
    assert.equal(await outputOf(edge, 'curl', '-s', '--data-binary', '@body', `${url}/sha256`), expected)
  })

  test('a half-close client gets the whole answer after it has stopped sending', async () => {
    const cloud = lab.node('cloud-1')
    await startTestServer(cloud, 'half-close', { port: 9000, answerBytes: 3_000_000 })
    const target = { address: cloud.address, port: 9000, sendBytes: 2_000_000 }
    assert.deepEqual(await runHalfCloseClient(lab.node('edge-a1'), target), {
      server: { name: 'cloud-1', bytes: 2_000_000, sha256: sha256OfTestBytes(2_000_000) },
      answer: { bytes: 3_000_000, sha256: sha256OfTestBytes(3_000_000) },
    })
  })

  test('a half-close client reports a server that resets', async () => {
    const cloud = lab.node('cloud-1')
    await startTestServer(cloud, 'reset', { port: 9001 })
    const report = await runHalfCloseClient(lab.node('edge-a1'), { address: cloud.address, port: 9001, sendBytes: 10 })
    assert.equal(report.error, 'ECONNRESET')
    assert.equal(report.server, undefined)
  })

  test('a slow server keeps later clients waiting', async () => {
    const cloud = lab.node('cloud-1')
    await startTestServer(cloud, 'slow-accept', { port: 9002, delayMs: 400 })
    const ask = () => outputOf(lab.node('edge-a1'), 'bash', '-c', `cat < /dev/tcp/${cloud.address}/9002`)
    const start = performance.now()
    assert.deepEqual(await Promise.all([ask(), ask()]), ['cloud-1', 'cloud-1'])
    assert.ok(performance.now() - start > 350)
  })

  test('manifests are written and removed by name', async () => {
    await lab.writeManifest(
      'web.yaml',
      serviceManifest({ name: 'web', clusterIP: '10.96.0.10', ports: [{ port: 80 }] }),
    )
    assert.deepEqual(readdirSync(lab.manifests), ['web.yaml'])
    await lab.removeManifest('web.yaml')
    assert.deepEqual(readdirSync(lab.manifests), [])
  })

  test('asking for a host that does not exist names those that do', () => {
    assert.throws(() => lab.pod('edge-a1'), /no pod "edge-a1"; it has: web, client, remote/)
  })
})

suite('commands on hosts', () => {
  let lab: Lab
  let node: Host
  before(async () => {
    lab = await createLab({ lans: { a: { nodes: ['edge-a1'] } } })
    node = lab.node('edge-a1')
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  test('a command gets its input and environment, and its exit code and output come back', async () => {
    const options = { input: 'in', env: { WORD: 'env' } }
    const result = await node.exec(['sh', '-c', 'cat; echo " $WORD"; echo bad >&2; exit 3'], options)
    assert.deepEqual(result, { code: 3, stdout: 'in env\n', stderr: 'bad\n' })
    assert.equal((await node.exec(['sh', '-c', 'kill -KILL $$'])).code, 137)
    assert.equal((await node.exec(['no-such-command'])).code, 127)
  })

  test('a command that takes too long is killed with its children', async () => {
    const slow = node.exec(['sh', '-c', 'sleep 61 & echo $!; wait'], { timeoutMs: 200 })
    const error: unknown = await slow.catch((reason: unknown) => reason)
    assert.ok(error instanceof Error)
    assert.match(error.message, /took longer than 200 ms/)
    const child = Number(/^\d+$/m.exec(error.message)?.[0])
    assert.deepEqual(await untilGone([child]), [])
  })

  test('the pid of a spawned command is its own, and a stop shows how it ended', async () => {
    const sleeper = node.spawn(['sleep', '60'])
    const echo = node.spawn(['sh', '-c', 'echo $$; exec sleep 60'])
    assert.equal(await echo.waitForLine(/^\d+$/), `${echo.pid}`)
    assert.deepEqual(await sleeper.stop('SIGINT'), { code: null, signal: 'SIGINT' })
    assert.deepEqual(await echo.stop(), { code: null, signal: 'SIGTERM' })
  })

  test('a process that ignores SIGTERM is killed after a while', async () => {
    const stubborn = node.spawn(['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 60; done'])
    await stubborn.waitForLine(/ready/)
    assert.deepEqual(await stubborn.stop('SIGTERM', 100), { code: null, signal: 'SIGKILL' })
  })

  test('waiting for a line that never comes tells what was written instead', async () => {
    const short = node.spawn(['sh', '-c', 'echo cannot start >&2; exit 4'])
    await assert.rejects(short.waitForLine(/ready/), /ended with code 4; its output ends with:\ncannot start/)
    const silent = node.spawn(['sleep', '60'])
    await assert.rejects(silent.waitForLine(/ready/, 50), /waited 50 ms/)
  })

  test('stopping all ends what runs on hosts and keeps the network', async () => {
    const running = [node.spawn(['sleep', '60']), node.spawn(['sleep', '60'])]
    await lab.stopAll()
    assert.deepEqual(
      running.map(({ exit }) => exit?.signal),
      ['SIGTERM', 'SIGTERM'],
    )
    assert.equal(await outputOf(node, 'dig', '+short', 'upstream.example'), '198.51.100.7')
  })

  test('agents start with a configuration that fits the lab, and are waited for', async (t) => {
    const binary = join(lab.dir, 'edgemesh')
    await outputOf(
      node,
      'sh',
      '-c',
      `printf '#!/bin/sh\\necho "{\\"msg\\":\\"$1 ready\\"}"\\nexec cat "$3" -\\n' > ${binary}`,
    )
    await outputOf(node, 'chmod', '+x', binary)
    const previous = process.env['EDGEMESH_BINARY']
    process.env['EDGEMESH_BINARY'] = binary
    t.after(() => {
      if (previous === undefined) delete process.env['EDGEMESH_BINARY']
      else process.env['EDGEMESH_BINARY'] = previous
    })
    await lab.startServer('edge-a1')
    await lab.startAgent('edge-a1', { modules: { edgeProxy: { onStop: 'remove' } } })
    const config: unknown = parse(readFileSync(join(node.dir, 'edgemesh-agent.yaml'), 'utf8'))
    assert.ok(agentSchema.safeParse(config).success)
    assert.ok(serverSchema.safeParse(parse(readFileSync(join(node.dir, 'edgemesh-server.yaml'), 'utf8'))).success)
    assert.deepEqual(config, {
      nodeName: 'edge-a1',
      stateDir: join(node.dir, 'agent/state'),
      runtimeDir: join(node.dir, 'agent/run'),
      kubeAPIConfig: { manifests: lab.manifests },
      modules: {
        edgeDNS: { enable: true },
        edgeProxy: { enable: true, onStop: 'remove' },
        edgeTunnel: { enable: true, servers: ['192.168.1.11:20004'], psk: { path: join(lab.dir, 'psk') } },
      },
    })
  })
})

suite('nodes in difficult places', () => {
  for (const firewallTool of ['iptables', 'nft'] as const) {
    test(`a firewall made with ${firewallTool} drops forwarded and incoming traffic, but no replies`, async () => {
      await using lab = await createLab({
        cloud: ['cloud-1'],
        lans: {
          a: {
            nodes: { strict: { pods: ['pod'], firewallTool, forwardPolicy: 'drop', inputPolicy: 'drop' }, other: {} },
          },
        },
      })
      const [strict, pod, cloud] = [lab.node('strict'), lab.pod('pod'), lab.node('cloud-1')]
      await Promise.all([cloud, strict].map((host) => startTestServer(host, 'http', { port: 80 })))
      assert.equal(await canReach(strict, cloud.address), true)
      assert.equal(await canReach(strict, '127.0.0.1'), true)
      const dropped = [
        canReach(lab.node('other'), strict.address),
        canReach(pod, strict.address),
        canReach(pod, cloud.address),
      ]
      assert.deepEqual(await Promise.all(dropped), [false, false, false])
      // A pod's own network needs nobody to forward.
      await startTestServer(pod, 'http', { port: 80 })
      assert.equal(await canReach(strict, pod.address), true)
    })
  }

  test('a node without a default route reaches its LAN only', async () => {
    await using lab = await createLab({
      cloud: ['cloud-1'],
      lans: { a: { nodes: { lonely: { defaultRoute: false }, other: {} } } },
    })
    await Promise.all(
      [lab.node('cloud-1'), lab.node('other')].map((host) => startTestServer(host, 'http', { port: 80 })),
    )
    assert.equal(await canReach(lab.node('lonely'), lab.node('other').address), true)
    assert.equal(await canReach(lab.node('lonely'), lab.node('cloud-1').address), false)
    const { stderr } = await lab.node('lonely').exec(['ip', 'route', 'get', lab.node('cloud-1').address])
    assert.match(stderr, /unreachable/)
  })
})

suite('what stays behind', () => {
  test('disposal leaves no namespace, no file and no process, not even one that hid from the lab', async () => {
    let pid = 0
    {
      await using lab = await createLab({ cloud: ['cloud-1'], lans: { a: { nodes: ['edge-a1'] } } })
      const hidden = await lab.node('edge-a1').exec(['sh', '-c', 'setsid sleep 62 >/dev/null 2>&1 & echo $!'])
      pid = Number(hidden.stdout)
      assert.equal(readdirSync('/run/netns').filter((name) => name.startsWith(`em-${process.pid}-`)).length, 4)
      assert.ok(existsSync(`/proc/${pid}`))
    }
    assert.deepEqual(readdirSync('/run/netns'), [])
    assert.deepEqual(readdirSync('/run/edgemesh-lab'), [])
    assert.deepEqual(await untilGone([pid]), [])
    const { stdout } = await promisify(execFile)('ip', ['-o', 'link'])
    assert.equal(stdout.trim().split('\n').length, 1, 'only lo is left')
  })

  test('a lab that cannot be built leaves nothing either', async () => {
    await assert.rejects(createLab({ cloud: { 'cloud-1': { podBridge: '300.1.1.0/24' } } }), /300\.1\.1\.1/)
    assert.deepEqual(readdirSync('/run/netns'), [])
    assert.deepEqual(readdirSync('/run/edgemesh-lab'), [])
  })

  test('a second lab at the same time is refused and leaves the first alone', async () => {
    await using lab = await createLab({ cloud: ['cloud-1'] })
    await assert.rejects(createLab({ cloud: ['cloud-1'] }), /dispose the other lab/)
    assert.equal(await outputOf(lab.node('cloud-1'), 'dig', '+short', 'upstream.example'), '198.51.100.7')
  })

  test('SIGKILL of an isolated run ends every process in it', async () => {
    const script = 'setsid sleep 63 & ip netns add left && ip netns exec left sleep 64 & sleep 0.1; echo ready; wait'
    const outer = spawn(isolated, ['sh', '-c', script], { env: { ...process.env, EDGEMESH_LAB: '' }, stdio: 'pipe' })
    await once(outer.stdout, 'data')
    const inside = descendantsOf(outer.pid ?? 0)
    assert.ok(inside.length >= 5, `only ${inside.length} processes were found`)
    outer.kill('SIGKILL')
    await once(outer, 'exit')
    assert.deepEqual(await untilGone(inside), [])
    assert.ok(!existsSync('/run/netns/left'))
  })
})

suite('scripts/isolated', () => {
  const run = async (argv: readonly string[], env: Record<string, string> = { EDGEMESH_LAB: '' }) => {
    const child = spawn(isolated, argv, { env: { ...process.env, ...env }, stdio: 'pipe' })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data))
    child.stdin.end('from outside')
    const [code] = await once(child, 'close')
    return { code, output }
  }

  test('passes input in, and output and exit code out', async () => {
    assert.deepEqual(await run(['sh', '-c', 'cat; exit 9']), { code: 9, output: 'from outside' })
  })

  test('gives a network with lo alone, an empty /run and processes of its own', async () => {
    const { output } = await run(['sh', '-c', 'ls /sys/class/net /run; ip -o link show up; readlink /proc/self/ns/net'])
    assert.match(output, /^1: lo:/m)
    assert.doesNotMatch(output, /^2: /m)
    assert.match(output, /^netns$/m)
    assert.ok(!output.includes((await run(['readlink', '/proc/self/ns/net'], {})).output.trim()))
  })

  test('runs the command in place when it is inside already', async () => {
    const here = await promisify(execFile)('readlink', ['/proc/self/ns/net'])
    assert.equal((await run(['readlink', '/proc/self/ns/net'], {})).output, here.stdout)
  })

  test('passes signals on to the command', async () => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      const script = `trap "echo got it; exit 6" ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`
      const child = spawn(isolated, ['sh', '-c', script], { env: { ...process.env, EDGEMESH_LAB: '' }, stdio: 'pipe' })
      const lines = child.stdout.setEncoding('utf8')
      let output = ''
      lines.on('data', (data) => (output += data))
      await once(lines, 'data')
      child.kill(signal)
      const [code] = await once(child, 'close')
      assert.deepEqual({ code, output }, { code: 6, output: 'ready\ngot it\n' }, signal)
    }
  })

  test('hosts get a resolver also where the file of the machine is a link into /run', async () => {
    const prepare = (setUp: string) => {
      const module = JSON.stringify(join(root, 'test/lab/isolation.ts'))
      const node = `"${process.execPath}" -e 'import(${module}).then((m) => m.prepareResolverFile())'`
      return run([
        'sh',
        '-c',
        `mount -t tmpfs tmpfs /etc && ${setUp} && ${node} 2>&1 && cat /etc/resolv.conf && echo ok`,
      ])
    }
    assert.deepEqual(await prepare('ln -s ../run/stub/resolv.conf /etc/resolv.conf'), { code: 0, output: 'ok\n' })
    assert.deepEqual(await prepare('echo own > /etc/resolv.conf'), { code: 0, output: 'own\nok\n' })
    assert.match((await prepare('true')).output, /\/etc\/resolv\.conf does not exist/)
  })

  test('says what it needs when it is not root', async () => {
    const command = ['setpriv', '--reuid', '65534', '--clear-groups', await publicPathOf(isolated), 'true']
    const child = promisify(execFile)(command[0] ?? '', command.slice(1), { env: { PATH: process.env['PATH'] ?? '' } })
    const error: unknown = await child.catch((reason: unknown) => reason)
    assert.ok(error instanceof Error && 'code' in error && 'stderr' in error)
    assert.equal(error.code, 1)
    assert.match(`${error.stderr}`, /needs root/)
  })

  test('a lab outside it is refused', async () => {
    const script = `import(${JSON.stringify(join(root, 'test/lab/index.ts'))}).then(({ createLab }) => createLab({}))`
    const outside = [{ EDGEMESH_LAB: '' }, { EDGEMESH_LAB: '1', EDGEMESH_LAB_OUTER_NETNS: '' }]
    const here = (await promisify(execFile)('readlink', ['/proc/self/ns/net'])).stdout.trim()
    for (const env of [...outside, { EDGEMESH_LAB: '1', EDGEMESH_LAB_OUTER_NETNS: here }]) {
      const child = promisify(execFile)(process.execPath, ['-e', script], { env: { ...process.env, ...env } })
      await assert.rejects(child, /put scripts\/isolated before the command/)
    }
  })
})

suite('plans', () => {
  test('no link has a name longer than the kernel takes', () => {
    const pods = Array.from({ length: 120 }, (_, index) => `a-pod-with-a-very-long-name-${index}`)
    const plan = planLab({ lans: { 'a-site-with-a-long-name': { nodes: { 'a-node-with-a-long-name': { pods } } } } })
    const links = plan.cables.flat().map(({ link }) => link)
    assert.ok(links.length > 240)
    assert.deepEqual(
      links.filter((link) => link.length > 15),
      [],
    )
  })

  test('names that clash and networks that are none are refused', () => {
    assert.throws(() => planLab({ cloud: ['x'], lans: { a: { nodes: ['x'] } } }), /Two hosts of the lab are called "x"/)
    assert.throws(() => planLab({ cloud: ['a'], lans: { a: { nodes: [] } } }), /Two parts of the lab are called "a"/)
    assert.throws(() => planLab({ lans: { a: { subnet: '10.0.0.0/16', nodes: [] } } }), /must have a \/24/)
    assert.throws(() => planLab({ cloud: { x: { podBridge: 'fd00::/64' } } }), /not fd00::\/64/)
  })
})

suite('manifests', () => {
  test('a Service says what was asked for', () => {
    const ports = [
      { name: 'http', port: 80, targetPort: 8080 },
      { name: 'dns', port: 53, protocol: 'UDP' as const },
    ]
    const service: unknown = parse(serviceManifest({ namespace: 'shop', name: 'web', clusterIP: '10.96.0.10', ports }))
    assert.deepEqual(service, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'shop', name: 'web' },
      spec: {
        type: 'ClusterIP',
        clusterIP: '10.96.0.10',
        clusterIPs: ['10.96.0.10'],
        ports: [
          { name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' },
          { name: 'dns', port: 53, targetPort: 53, protocol: 'UDP' },
        ],
      },
    })
  })

  test('an EndpointSlice belongs to its Service and carries the target ports', () => {
    const endpoints = [
      { address: '10.244.1.2', nodeName: 'edge-a1', podName: 'web' },
      { address: '192.0.2.1', ready: false },
    ]
    const ports = [{ name: 'http', port: 80, targetPort: 8080 }]
    const slice: unknown = parse(endpointSliceManifest({ serviceName: 'web', ports, endpoints }))
    assert.deepEqual(slice, {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace: 'default', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: [
        {
          addresses: ['10.244.1.2'],
          conditions: { ready: true },
          nodeName: 'edge-a1',
          targetRef: { kind: 'Pod', namespace: 'default', name: 'web' },
        },
        { addresses: ['192.0.2.1'], conditions: { ready: false } },
      ],
    })
  })
})
