/**
 * Interception in a real kernel: device, routes, nftables, firewalls of others. One node under test, `edge-a1`; the
 * cloud node stands for every endpoint elsewhere and is dialled without a tunnel.
 *
 *        wan ── cloud-1 (http :8080)
 *         │
 *      router-a
 *         │ 192.168.1.0/24
 *     ┌───┴──────────────┐
 *   edge-a1            edge-a2 (a neighbour, no agent)
 *     │ cni0 10.244.0.0/24
 *   ┌─┴────┐
 *  web   client
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  createLab,
  type ExecResult,
  type Host,
  type Lab,
  type LabProcess,
  type NodeSpec,
  publicPathOf,
  startTestServer,
} from '../lab/index.ts'
import type { ProxyScene, SceneService } from './service-proxy-process.ts'
import { argumentsFor, nftables, type RulesWay, rulesWays } from './support/rules-way.ts'

const script = resolve(import.meta.dirname, 'service-proxy-process.ts')

interface Scenario extends AsyncDisposable {
  readonly lab: Lab
  readonly node: Host
  readonly neighbour: Host
  readonly web: Host
  readonly client: Host
  readonly services: Readonly<Record<'local' | 'remote' | 'mixed' | 'empty' | 'echo', SceneService>>
  /** Starts interception and waits for the rules. */
  start(config?: ProxyScene['config']): Promise<LabProcess>
  /** Gives a running one other Services. */
  change(running: LabProcess, services: readonly SceneService[]): Promise<void>
}

async function createScenario(spec: NodeSpec, way: RulesWay = nftables): Promise<Scenario> {
  const lab = await createLab({
    cloud: ['cloud-1'],
    lans: {
      a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client'], ...spec }, 'edge-a2': {} } },
    },
  })
  const [node, web, cloud] = [lab.node('edge-a1'), lab.pod('web'), lab.node('cloud-1')]
  await startTestServer(web, 'http', { port: 8080 })
  await startTestServer(web, 'echo', { port: 7000 })
  await startTestServer(cloud, 'http', { port: 8080 })
  const here = { node: 'edge-a1', address: web.address, port: 8080 }
  const there = { node: 'cloud-1', address: cloud.address, port: 8080 }
  const services = {
    local: { name: 'local', clusterIP: '10.96.0.10', port: 80, backends: [here] },
    remote: { name: 'remote', clusterIP: '10.96.0.11', port: 80, backends: [there] },
    mixed: { name: 'mixed', clusterIP: '10.96.0.12', port: 80, backends: [here, there] },
    empty: { name: 'empty', clusterIP: '10.96.0.13', port: 80, backends: [] },
    echo: { name: 'echo', clusterIP: '10.96.0.14', port: 7, backends: [{ ...here, port: 7000 }] },
  }
  const file = join(node.dir, 'scene.json')
  let config: NonNullable<ProxyScene['config']> = {}
  const write = (scene: Omit<ProxyScene, 'nodeName'>) =>
    writeFile(file, JSON.stringify({ nodeName: 'edge-a1', ...scene }))
  return {
    lab,
    node,
    web,
    services,
    neighbour: lab.node('edge-a2'),
    client: lab.pod('client'),
    async start(wanted = {}) {
      config = wanted
      await write({ config, services: Object.values(services) })
      const running = node.spawn(argumentsFor(way, node, [process.execPath, script, file]))
      await running.waitForLine(/^ready/)
      return running
    },
    async change(running, changed) {
      await write({ config, services: changed })
      process.kill(running.pid, 'SIGHUP')
    },
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  }
}

const fetchFrom = (host: Host, service: SceneService, path = '/'): Promise<ExecResult> =>
  host.exec(['curl', '-sS', '--max-time', '3', `http://${service.clusterIP}:${service.port}${path}`])

async function answerTo(host: Host, service: SceneService, path = '/'): Promise<string> {
  const { code, stdout, stderr } = await fetchFrom(host, service, path)
  assert.equal(code, 0, `${host.name} to ${service.name}: ${stderr}`)
  return stdout.trim()
}

async function assertRefusedAtOnce(host: Host, service: SceneService): Promise<void> {
  const startedAt = performance.now()
  const { code, stderr } = await fetchFrom(host, service)
  assert.equal(code, 7, `${host.name} to ${service.name} is not refused: ${stderr}`)
  assert.ok(performance.now() - startedAt < 1_000, `${host.name} waited for the refusal`)
}

/** Runs until the check passes and returns how long that took, in milliseconds. */
async function timeUntil(what: string, check: () => Promise<boolean>, limitMs = 5_000): Promise<number> {
  const startedAt = performance.now()
  while (!(await check())) {
    if (performance.now() - startedAt > limitMs) throw new Error(`still not true after ${limitMs} ms: ${what}`)
    await delay(20)
  }
  return performance.now() - startedAt
}

/** Gives up early: a first packet that finds no rule is lost, and the next one comes a second later. */
const works = async (host: Host, { clusterIP, port }: SceneService) =>
  (await host.exec(['curl', '-sS', '--max-time', '0.2', `http://${clusterIP}:${port}/`])).code === 0

async function stop(running: LabProcess): Promise<void> {
  process.kill(running.pid, 'SIGTERM')
  assert.deepEqual(await running.exited, { code: 0, signal: null })
}

/** The kernel state that could be ours. */
async function traces(host: Host): Promise<string> {
  const commands = [
    'nft list ruleset',
    'iptables-save',
    'iptables-legacy-save',
    'ip -br link',
    'ip route show table all',
  ]
  const { stdout } = await host.exec(['sh', '-c', commands.map((command) => `${command} 2>/dev/null`).join('; ')])
  return stdout
    .split('\n')
    .filter((line) => /edgemesh|10\.96\.|169\.254\.|proto 96/.test(line))
    .join('\n')
}

async function assertRun(host: Host, ...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.exec(argv)
  assert.equal(code, 0, `${argv.join(' ')}: ${stderr}`)
  return stdout
}

/** How somebody takes rules away who knows nothing of ours, and then a part of ours. */
const deletions: Readonly<Record<RulesWay['name'], readonly [all: string, part: string]>> = {
  nftables: ['nft flush ruleset', 'nft flush chain ip edgemesh prerouting'],
  'iptables-nft': ['nft flush ruleset', 'iptables-nft -t nat -F EDGEMESH-PREROUTING'],
  'iptables-legacy': ['iptables-legacy -t nat -F', 'iptables-legacy -t nat -F EDGEMESH-PREROUTING'],
}

for (const way of rulesWays)
  suite(`a node whose bridge passes frames, with rules of ${way.name}`, () => describeNode(way))

function describeNode(way: RulesWay): void {
  let scene: Scenario
  let running: LabProcess
  before(async () => {
    scene = await createScenario({ bridgeNf: true, rpFilter: 1 }, way)
    running = await scene.start()
  })
  after(() => scene?.[Symbol.asyncDispose]())

  test('a process of the node reaches an endpoint here', async () => {
    assert.equal(await answerTo(scene.node, scene.services.local), 'web')
  })

  test('a pod reaches an endpoint on its own bridge, which sees the address of the pod', async () => {
    assert.match(await answerTo(scene.client, scene.services.local, '/client'), new RegExp(`^${scene.client.address}:`))
  })

  test('endpoints elsewhere are reached through the userspace proxy, from the node and from a pod', async () => {
    assert.equal(await answerTo(scene.node, scene.services.remote), 'cloud-1')
    assert.equal(await answerTo(scene.client, scene.services.remote), 'cloud-1')
  })

  test('a Service with endpoints here and elsewhere uses both', async () => {
    const answers = new Set<string>()
    for (let request = 0; request < 40; request++) answers.add(await answerTo(scene.client, scene.services.mixed))
    assert.deepEqual([...answers].sort(), ['cloud-1', 'web'])
  })

  test('a Service without endpoints refuses at once, from the node and from a pod', async () => {
    await assertRefusedAtOnce(scene.node, scene.services.empty)
    await assertRefusedAtOnce(scene.client, scene.services.empty)
  })

  test('UDP reaches an endpoint here and one elsewhere, and is refused at once when there is none', async () => {
    const echo = `const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(process.argv[1] + ' ' + m, r.port, r.address)); s.bind(5300, () => console.log('listening'))`
    await scene.web.spawn([process.execPath, '-e', echo, 'web']).waitForLine(/^listening/)
    const cloud = scene.lab.node('cloud-1')
    await cloud.spawn([process.execPath, '-e', echo, 'cloud']).waitForLine(/^listening/)
    const udp = { ...scene.services.local, name: 'udp', protocol: 'udp', clusterIP: '10.96.0.15', port: 5300 } as const
    const here = { node: 'edge-a1', address: scene.web.address, port: 5300 }
    const none = { ...udp, name: 'no-udp', clusterIP: '10.96.0.16', backends: [] }
    const there = [{ node: 'cloud-1', address: cloud.address, port: 5300 }]
    const far = { ...udp, name: 'far-udp', clusterIP: '10.96.0.17', backends: there }
    const client = [
      `const s = require('dgram').createSocket('udp4')`,
      `s.connect(5300, process.argv[1], () => s.send('hi'))`,
      `s.on('message', (m) => { console.log(String(m)); s.close() }).on('error', (e) => { console.log(e.code); s.close() })`,
      `setTimeout(() => process.exit(1), 500).unref()`,
    ].join(';')
    const ask = async (host: Host, { clusterIP }: SceneService) =>
      (await host.exec([process.execPath, '-e', client, clusterIP])).stdout.trim()
    await scene.change(running, [...Object.values(scene.services), { ...udp, backends: [here] }, none, far])
    for (const host of [scene.node, scene.client]) {
      await timeUntil('UDP is answered', async () => (await ask(host, udp)) === 'web hi')
      assert.equal(await ask(host, none), 'ECONNREFUSED')
      assert.equal(await ask(host, far), 'cloud hi')
    }
    await scene.change(running, Object.values(scene.services))
  })

  test('an endpoint reaches itself through its Service when its port reflects frames', async () => {
    await assertRun(scene.node, 'ip', 'link', 'set', 'veth0', 'type', 'bridge_slave', 'hairpin', 'on')
    assert.equal(await answerTo(scene.web, scene.services.local), 'web')
  })

  test('nobody reaches the userspace proxy but through a Service', async () => {
    process.kill(running.pid, 'SIGUSR2')
    const { listenPorts } = JSON.parse((await running.waitForLine(/^status/)).slice('status '.length))
    for (const [host, address] of [
      [scene.neighbour, scene.node.address],
      [scene.node, scene.node.address],
      [scene.client, '10.244.0.1'],
      [scene.client, '169.254.64.1'],
    ] as const) {
      const { code, stderr } = await host.exec([
        'curl',
        '-sS',
        '--max-time',
        '1',
        `http://${address}:${listenPorts[0]}/`,
      ])
      assert.equal(code, 28, `${host.name} to ${address}:${listenPorts[0]}: ${stderr}`)
    }
  })

  test('a neighbour that routes ClusterIPs through this node is not served', async () => {
    await assertRun(scene.neighbour, 'ip', 'route', 'add', '10.96.0.0/16', 'via', scene.node.address)
    assert.equal(await works(scene.neighbour, scene.services.local), false)
  })

  test('an established connection lives on while the rules are changed', async () => {
    // Any other NAT table would keep the translation of our connections alive.
    await assertRun(scene.node, 'nft', 'delete', 'table', 'ip', 'lab_cni')
    const { local, echo } = scene.services
    const chat = [
      `exec 3<>/dev/tcp/${echo.clusterIP}/${echo.port} || exit 1`,
      'for n in $(seq 200); do echo $n >&3; read -r -t 2 back <&3 || exit 1; echo "back $back"; sleep 0.02; done',
    ].join('\n')
    const talking = [scene.node, scene.client].map((host) => host.spawn(['bash', '-c', chat]))
    await Promise.all(talking.map((one) => one.waitForLine(/^back 5$/)))
    for (let round = 0; round < 5; round++) {
      const extra = { ...local, name: `extra-${round}`, clusterIP: `10.96.1.${round + 1}` }
      await scene.change(running, [...Object.values(scene.services), extra])
      await timeUntil('the added Service works', () => works(scene.node, extra))
    }
    await Promise.all(talking.map((one) => one.waitForLine(/^back 200$/, 10_000)))
    await scene.change(running, Object.values(scene.services))
  })

  test('a killed agent leaves endpoints here reachable, and the next one takes over', async () => {
    process.kill(running.pid, 'SIGKILL')
    await running.exited
    assert.equal(await answerTo(scene.client, scene.services.local), 'web')
    await assertRefusedAtOnce(scene.client, scene.services.remote)
    running = await scene.start()
    assert.equal(await answerTo(scene.client, scene.services.remote), 'cloud-1')
  })

  test('onStop keep leaves endpoints here reachable and refuses what only the agent can reach', async () => {
    await stop(running)
    assert.equal(await answerTo(scene.client, scene.services.local), 'web')
    await assertRefusedAtOnce(scene.client, scene.services.remote)
    for (let request = 0; request < 8; request++) {
      assert.equal(await answerTo(scene.node, scene.services.mixed), 'web')
    }
    running = await scene.start()
    assert.equal(await answerTo(scene.client, scene.services.remote), 'cloud-1')
  })

  if (way === nftables)
    test('a table of another shape, as another version may leave it, is replaced', async () => {
      await running.stop('SIGKILL')
      await assertRun(scene.node, 'nft', 'delete', 'table', 'ip', 'edgemesh')
      const other = 'type nat hook prerouting priority 5 ; policy accept ;'
      await assertRun(
        scene.node,
        'nft',
        `table ip edgemesh { map service { type ipv4_addr : verdict ; } ; chain prerouting { ${other} } ; }`,
      )
      running = await scene.start()
      assert.equal(await answerTo(scene.client, scene.services.local), 'web')
    })

  test('neighbours are served when clients are the whole LAN', async () => {
    await stop(running)
    running = await scene.start({ clients: 'lan' })
    assert.equal(await answerTo(scene.neighbour, scene.services.local), 'web')
  })

  test('what others delete is repaired soon', async () => {
    // Looking at the old tables takes a process, and is done more seldom where that takes long.
    const limitMs = way.name === 'iptables-legacy' ? 4_000 : 1_000
    const [all, part] = deletions[way.name]
    await assertRun(scene.node, ...all.split(' '))
    const flushed = await timeUntil('rules are back', () => works(scene.node, scene.services.local))
    assert.ok(flushed < limitMs, `the ruleset took ${flushed} ms`)
    await assertRun(scene.node, ...part.split(' '))
    const emptied = await timeUntil('pods are translated again', () => works(scene.client, scene.services.local))
    assert.ok(emptied < limitMs, `the chain took ${emptied} ms`)
    await assertRun(scene.node, 'ip', 'link', 'del', 'edgemesh0')
    const deleted = await timeUntil('the device is back', () => works(scene.client, scene.services.remote))
    assert.ok(deleted < 1_000, `the device took ${deleted} ms`)
  })

  test('onStop remove leaves nothing', async () => {
    await stop(running)
    running = await scene.start({ onStop: 'remove' })
    assert.notEqual(await traces(scene.node), '')
    await stop(running)
    assert.equal(await traces(scene.node), '')
  })
}

suite('a node with a strict nftables firewall, no default route and a bridge that nftables does not see', () => {
  let scene: Scenario
  let running: LabProcess
  before(async () => {
    const firewall = { forwardPolicy: 'drop', inputPolicy: 'drop', firewallTool: 'nft' } as const
    scene = await createScenario({ bridgeNf: false, defaultRoute: false, rpFilter: 1, ...firewall })
    // The only way to the cloud, so that it can be an endpoint.
    await assertRun(scene.node, 'ip', 'route', 'add', `${scene.lab.node('cloud-1').address}/32`, 'via', '192.168.1.1')
    running = await scene.start()
  })
  after(() => scene?.[Symbol.asyncDispose]())

  test('processes and pods reach endpoints here and elsewhere', async () => {
    for (const host of [scene.node, scene.client]) {
      assert.equal(await answerTo(host, scene.services.local), 'web')
      assert.equal(await answerTo(host, scene.services.remote), 'cloud-1')
      await assertRefusedAtOnce(host, scene.services.empty)
    }
  })

  test('an endpoint reaches itself through its Service', async () => {
    assert.equal(await answerTo(scene.web, scene.services.local), 'web')
  })

  test('questions to cluster DNS pass the firewall', async () => {
    const input = await assertRun(scene.node, 'nft', 'list', 'chain', 'inet', 'other_firewall', 'input')
    assert.match(input, /ip daddr 169\.254\.96\.16 udp dport 53 accept comment "edgemesh"/)
  })

  test('accepts that the owner of the firewall drops come back', async () => {
    await assertRun(scene.node, 'nft', 'flush', 'chain', 'inet', 'other_firewall', 'forward')
    await timeUntil('forwarding works again', () => works(scene.client, scene.services.local), 2_000)
  })

  test('host routes go when a default route comes, and come back when it goes', async () => {
    const routes = () => assertRun(scene.node, 'ip', '-4', 'route', 'show', 'dev', 'edgemesh0')
    assert.match(await routes(), /10\.96\.0\.10 .*src 192\.168\.1\.11/)
    await assertRun(scene.node, 'ip', 'route', 'add', 'default', 'via', '192.168.1.1')
    await timeUntil('host routes are gone', async () => (await routes()) === '')
    assert.equal(await answerTo(scene.node, scene.services.local), 'web')
    await assertRun(scene.node, 'ip', 'route', 'del', 'default')
    await timeUntil('the node reaches Services again', () => works(scene.node, scene.services.local))
  })

  test('stopping with remove takes the accepts out of the firewall again', async () => {
    await stop(running)
    running = await scene.start({ onStop: 'remove' })
    await stop(running)
    assert.equal(await traces(scene.node), '')
    assert.match(await assertRun(scene.node, 'nft', 'list', 'ruleset'), /table inet other_firewall/)
  })
})

for (const { way, tool } of rulesWays.flatMap((way) => way.iptables.map((tool) => ({ way, tool })))) {
  suite(`a node whose firewall is made by ${tool}, with rules of ${way.name}`, () => {
    let scene: Scenario
    let running: LabProcess
    before(async () => {
      scene = await createScenario({}, way)
      for (const rule of [
        '-A INPUT -i lo -j ACCEPT',
        '-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT',
        '-P INPUT DROP',
        '-P FORWARD DROP',
      ]) {
        await assertRun(scene.node, tool, ...rule.split(' '))
      }
      running = await scene.start({ onStop: 'remove' })
    })
    after(() => scene?.[Symbol.asyncDispose]())

    test('pods reach endpoints here and elsewhere although FORWARD and INPUT drop', async () => {
      assert.equal(await answerTo(scene.client, scene.services.local), 'web')
      assert.equal(await answerTo(scene.client, scene.services.remote), 'cloud-1')
    })

    test('the owner of the firewall can still read it, and lost accepts come back', async () => {
      assert.match(await assertRun(scene.node, tool, '-S'), /-A FORWARD .*--comment edgemesh .*-j ACCEPT/)
      await assertRun(scene.node, tool, '-F', 'FORWARD')
      await timeUntil('forwarding works again', () => works(scene.client, scene.services.local), 7_000)
    })

    test('stopping with remove leaves the firewall as it was', async () => {
      await stop(running)
      assert.equal(await traces(scene.node), '')
      assert.match(await assertRun(scene.node, tool, '-S'), /-P FORWARD DROP/)
    })
  })
}

suite('a node that cannot intercept', () => {
  let scene: Scenario
  before(async () => {
    scene = await createScenario({})
    await stop(await scene.start({ onStop: 'remove' }))
  })
  after(() => scene?.[Symbol.asyncDispose]())
  const attempt = async (...prefix: string[]): Promise<string> => {
    const { code, stderr } = await scene.node.exec([
      ...prefix,
      await publicPathOf(process.execPath),
      await publicPathOf(script),
      join(scene.node.dir, 'scene.json'),
    ])
    assert.notEqual(code, 0)
    return stderr
  }

  test('without root: the error says so and what to do', async () => {
    await assertRun(scene.node, 'chmod', '755', scene.node.dir)
    const stderr = await attempt('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups')
    assert.match(stderr, /NotPermittedError: Cannot .*: permission denied; run edgemesh as root/)
  })

  test('without nft: the error names the Debian package', async () => {
    assert.match(
      await attempt('env', 'PATH=/nonexistent'),
      /Cannot run nft: .*not installed; .*apt-get install nftables/,
    )
  })

  test('with the bridge address on another device: the error names the device', async () => {
    await assertRun(scene.node, 'ip', 'link', 'add', 'other0', 'type', 'bridge')
    await assertRun(scene.node, 'ip', 'addr', 'add', '169.254.96.16/24', 'dev', 'other0')
    assert.match(
      await attempt(),
      /Cannot put 169\.254\.96\.16 on edgemesh0: device other0 holds that address; remove it/,
    )
    assert.doesNotMatch(await assertRun(scene.node, 'nft', 'list', 'tables'), /edgemesh/)
  })
})
