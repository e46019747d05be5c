#include "report/explanations_es.h"

namespace greta::report {

std::string_view explain_es(isolate::Reason reason) {
  using isolate::Reason;
  switch (reason) {
    case Reason::bit_equal:
      return "todas las claves que registraron ambos brazos son iguales bit a bit, y los controles demuestran que se "
             "habría detectado una diferencia";
    case Reason::within_bounds:
      return "cada operación de ambos brazos está dentro de su cota de redondeo y leyó lo que se había escrito: lo que difiere "
             "es "
             "redondeo heredado";
    case Reason::beyond_bound:
      return "una operación escribió lo que ningún redondeo de sus entradas explica, o no leyó lo que se había escrito";
    case Reason::above_threshold:
      return "los brazos difieren por encima de los umbrales: consulte la primera discrepancia";
    case Reason::nan_in_b:
      return "el brazo B tiene NaN o infinito donde el brazo A es finito: consulte los operandos de la primera de esas filas";
    case Reason::nondeterministic:
      return "un brazo dio otros bits al calcular lo mismo otra vez: una carrera, o memoria que nadie escribió; antes de eso "
             "no "
             "se juzga ninguna deriva";
    case Reason::as_designed:
      return "el modo E0 compara tokens distintos: se mide, nunca se juzga; use --exp E1 para obtener un veredicto";
    case Reason::misaligned:
      return "los brazos no calcularon los mismos tokens en las mismas posiciones: alinéelos antes de comparar";
    case Reason::missing_stages:
      return "faltan en un brazo claves que el otro registró: regístrelas o indique qué comparar con --stages y --layers";
    case Reason::missing_operands:
      return "las filas son iguales, pero no se guardó lo que recibió una operación: registre de nuevo la ejecución con sus "
             "operandos";
    case Reason::one_token_prompt:
      return "un prompt de un solo token no deja nada que el brazo B pueda procesar en prefill: use uno más largo";
    case Reason::below_threshold:
      return "los brazos no son iguales bit a bit, pero en ningún sitio superan los umbrales: puede ser redondeo o un fallo "
             "pequeño";
    case Reason::weights_differ:
      return "los brazos calcularon con pesos distintos, así que sus filas difieren sin que nada esté mal: ninguna operación "
             "tiene la culpa";
    case Reason::nan_in_a:
      return "el brazo A, la referencia, tiene NaN donde el brazo B no: corrija antes la referencia";
    case Reason::unreadable_lines:
      return "no se pudieron leer algunas líneas de la traza, así que su contenido no se comparó: vuelva a escribirla";
    case Reason::zero_common_keys:
      return "no hay ninguna clave que registraran ambos brazos: no se comparó nada";
    case Reason::arms_do_not_differ:
      return "los brazos tienen la misma secuencia de llamadas, plan, backend, compilación y máquina: se compara una ejecución "
             "consigo misma";
    case Reason::arm_not_as_declared:
      return "un brazo no se ejecutó como se le pidió: su resultado no dice nada sobre lo pedido";
    case Reason::decode_read_no_history:
      return "decode0 no leyó las entradas KV de todo el prefijo, escritas en pasos anteriores: no fue una decodificación";
    case Reason::fault_without_effect:
      return "el fallo inyectado no cambió nada aquí: colóquelo en otro lugar o quítelo";
    case Reason::nan_on_both_sides:
      return "ambos brazos tienen NaN en una clave: dos NaN no son una coincidencia";
    case Reason::all_zero:
      return "ambos brazos solo tienen ceros en una clave: eso no es una coincidencia";
    case Reason::control_not_found:
      return "un error inyectado a propósito no se detectó en su lugar: una comparación que no puede fallar no demuestra "
             "nada";
    case Reason::no_prompts:
      return "no había ningún prompt que comparar";
  }
  return "";
}

}  // namespace greta::report
