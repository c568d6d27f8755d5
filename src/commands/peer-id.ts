import { openConfig } from '../config/index.ts'
import { derivedNameOf, deriveIdentity, readPeerId } from '../tunnel/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import { configFileOf } from './control.ts'

/** Prints who this node is to its peers, or who the Go system takes a node of some name for. */
export async function run({ arguments: [role], options }: CommandInput, context: CommandContext): Promise<number> {
  const { derive } = options
  context.out(`${typeof derive === 'string' ? await derivedFrom(derive) : await ownPeerId(role, options, context)}\n`)
  return 0
}

async function derivedFrom(name: string): Promise<string> {
  if (name === '') throw new Error('Cannot derive a peer ID: --derive needs the name of a node')
  return (await deriveIdentity(name)).peerId
}

async function ownPeerId(
  name: string | undefined,
  options: CommandInput['options'],
  { env }: CommandContext,
): Promise<string> {
  const { role, file } = configFileOf(name, options)
  const { stateDir, nodeName, modules } = openConfig(role, file, env).config
  if (modules.edgeTunnel.identity === 'derived') return await derivedFrom(derivedNameOf({ nodeName, role }))
  const peerId = await readPeerId(stateDir)
  if (peerId === undefined) {
    throw new Error(`Cannot tell the peer ID: ${stateDir}/identity.key is made when edgemesh ${role} starts first`)
  }
  return peerId
}
