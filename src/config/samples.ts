import { stringify } from 'yaml'
import { headOf, type Role, schemas } from './documents.ts'

/** A document with every key at its default, as YAML. */
export function renderDefaultConfig(role: Role): string {
  return stringify(schemas[role].parse({}))
}

const minimalModules: Readonly<Record<Role, Readonly<Record<string, { readonly enable: boolean }>>>> = {
  agent: { edgeProxy: { enable: true }, edgeTunnel: { enable: true } },
  server: { edgeTunnel: { enable: true } },
  gateway: { edgeGateway: { enable: true }, edgeTunnel: { enable: true } },
}

/** The shortest document that turns on what a role is for, as YAML. */
export function renderMinimalConfig(role: Role): string {
  return stringify({ ...headOf[role], modules: minimalModules[role] })
}
