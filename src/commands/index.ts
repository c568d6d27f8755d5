/**
 * The table of subcommands and, in one file for each, what they do. A file here is a composition root: it builds
 * and owns the parts that a command needs. This table is all of a command that is loaded before it runs, so that
 * `--help` and `check-config` stay fast and small.
 *
 * To add a command: write `NAME.ts` with an exported `run`, and add an entry below; `roleCommand` makes the entry
 * of a long-running one.
 *
 * Read next: `command.ts`, `agent.ts` (the boot sequence), `check-config.ts`.
 *
 * @module
 */
import type { CommandEntry } from './command.ts'
import { roleCommand } from './role-command.ts'

export * from './command.ts'
export * from './role-command.ts'

const roleNames = ['agent', 'server', 'gateway']

/** Every subcommand, in the order of the help page. */
export const commands: readonly CommandEntry[] = [
  roleCommand('agent', 'make Services work on this node', () => import('./agent.ts')),
  roleCommand('server', 'relay for agents and hand out their addresses; on a public node', () => import('./server.ts')),
  roleCommand(
    'gateway',
    'let requests from outside in to Services; by Istio Gateways and VirtualServices',
    () => import('./gateway.ts'),
  ),
  {
    name: 'status',
    group: 'Look',
    summary: 'show what the agent, server or gateway on this machine does',
    arguments: [{ syntax: '[role]', description: 'which of them (default: agent)', choices: roleNames }],
    options: [
      { syntax: '--config <file>', description: 'its configuration file (default: that of the role)' },
      { syntax: '--json', description: 'print it as JSON' },
    ],
    example: 'edgemesh status',
    load: () => import('./status.ts'),
  },
  {
    name: 'ping',
    group: 'Look',
    summary: 'show how the agent reaches a node, or the nodes of a Service, and how long it takes',
    arguments: [{ syntax: '<target>', description: 'node name, or Service as NAME or NAMESPACE/NAME' }],
    options: [
      { syntax: '--count <n>', description: 'probes, one a second (default: 5)' },
      { syntax: '--config <file>', description: 'configuration file of the agent' },
    ],
    example: 'edgemesh ping edge-b1',
    load: () => import('./ping.ts'),
  },
  {
    name: 'peer-id',
    group: 'Look',
    summary: 'print the peer ID of this node, or the one the Go system derives from a name',
    arguments: [{ syntax: '[role]', description: 'whose (default: agent)', choices: roleNames }],
    options: [
      { syntax: '--config <file>', description: 'its configuration file (default: that of the role)' },
      { syntax: '--derive <name>', description: 'derive it from this name; a gateway is called NODE-gateway' },
    ],
    example: 'edgemesh peer-id --derive k8s-node1',
    load: () => import('./peer-id.ts'),
  },
  {
    name: 'unpin',
    group: 'Other',
    summary: 'forget the identity of a node or server that was installed anew',
    arguments: [
      { syntax: '<name>', description: 'node name, or address of a server as the configuration has it' },
      { syntax: '[role]', description: 'who forgets it (default: agent)', choices: roleNames },
    ],
    options: [{ syntax: '--config <file>', description: 'its configuration file (default: that of the role)' }],
    example: 'edgemesh unpin edge-b1',
    load: () => import('./unpin.ts'),
  },
  {
    name: 'cleanup',
    group: 'Other',
    summary: 'remove all rules, devices and routes of edgemesh from this machine',
    options: [{ syntax: '--config <file>', description: 'configuration that names another bridge device' }],
    example: 'edgemesh cleanup',
    load: () => import('./cleanup.ts'),
  },
  {
    name: 'check-config',
    group: 'Configuration',
    summary: 'say what is wrong with a configuration file, and which keys change nothing',
    arguments: [{ syntax: '<file>', description: 'configuration file' }],
    options: [
      {
        syntax: '--role <role>',
        description: 'which command the file is for (default: what its kind says)',
        choices: roleNames,
      },
      { syntax: '--skip-files', description: 'do not look at the files it names, as for another machine' },
    ],
    example: 'edgemesh check-config edgemesh-agent.yaml',
    load: () => import('./check-config.ts'),
  },
  {
    name: 'config schema',
    group: 'Configuration',
    summary: 'print the JSON Schema of a configuration, for editors',
    arguments: [{ syntax: '[role]', description: 'which configuration (default: agent)', choices: roleNames }],
    example: 'edgemesh config schema agent > edgemesh-agent.schema.json',
    load: () => import('./config-schema.ts'),
  },
  {
    name: 'manifests',
    group: 'Configuration',
    summary: 'print the objects that run edgemesh in a Kubernetes cluster',
    options: [
      {
        syntax: '--server <address>',
        description: 'host[:20004] at which all nodes reach the server; several with commas',
      },
      { syntax: '--image <image>', description: 'container image that holds /usr/local/bin/edgemesh' },
      { syntax: '--psk-file <file>', description: 'pre-shared key of the mesh (default: a new one is made)' },
      { syntax: '--keep-psk', description: 'leave the key out, because the cluster has it already' },
      { syntax: '--namespace <name>', description: 'where everything goes (default: kubeedge)' },
      {
        syntax: '--role <role>',
        description:
          'which part; all is agent and server; crds are the Istio kinds, for clusters without Istio (default: all)',
        choices: ['agent', 'server', 'gateway', 'all', 'crds'],
      },
      {
        syntax: '--gateway-secrets <secrets>',
        description: 'certificates that the gateway may read: NAMESPACE/NAME, several with commas (default: none)',
      },
    ],
    example: 'edgemesh manifests --server mesh.example.org --image IMAGE | kubectl apply -f -',
    load: () => import('./manifests.ts'),
  },
  {
    name: 'licenses',
    group: 'Other',
    summary: 'print the licences of everything inside this executable',
    example: 'edgemesh licenses | less',
    load: () => import('./licenses.ts'),
  },
]
