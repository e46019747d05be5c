// Chat templates: which file's text is which, and what a turn is written as. Expected texts are by hand from the templates that
// the models are published with.
#include "model/chat_template.h"

#include <gtest/gtest.h>

#include "model/gguf.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/command.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

// The parts of published templates that matter here (newlines in strings as Jinja writes them, \n, or as themselves).
const std::string kLlama3 =
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] "
    "+ '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token "
    "+ "
    "content %}{% endif %}{{ content }}{% endfor %}";
const std::string kLlama31 =
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n"
    "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
    "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}";
const std::string kChatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const std::string kQwen25 =
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- "
    "messages[0]['content'] }}\n    {%- else %}\n        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful "
    "assistant.' "
    "}}\n    {%- endif %}\n{%- else %}\n    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a "
    "helpful "
    "assistant.<|im_end|>\\n' }}\n{%- endif %}";
const std::string kSmollm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful "
    "AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}";
const std::string kGemma2 =
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% "
    "for "
    "message in messages %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}";
const std::string kGemma3 =
    "{{ bos_token }}\n{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n{{ '<start_of_turn>' + role + '\n' + "
    "(first_user_prefix if loop.first else \"\") }}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}";

std::string rendered(const std::string& jinja, const std::string& user, const std::optional<std::string>& system = {}) {
  const auto chat = recognise_chat_template(jinja);
  if (!chat) return "not recognised";
  return render_chat(read_chat_format(*chat, jinja), user, system);
}

TEST(ChatTemplate, Recognised) {
  EXPECT_EQ(recognise_chat_template(kLlama3), ChatTemplate::llama3);
  EXPECT_EQ(recognise_chat_template(kLlama31), ChatTemplate::llama3);
  for (const std::string& text : {kChatml, kQwen25, kSmollm2}) EXPECT_EQ(recognise_chat_template(text), ChatTemplate::chatml);
  for (const std::string& text : {kGemma2, kGemma3}) EXPECT_EQ(recognise_chat_template(text), ChatTemplate::gemma);
  for (const char* known : {"llama3", "chatml", "gemma"}) EXPECT_EQ(name(*chat_template_from_name(known)), known);
  EXPECT_FALSE(chat_template_from_name("Llama3"));
}

TEST(ChatTemplate, NotRecognised) {
  EXPECT_FALSE(recognise_chat_template(""));
  EXPECT_FALSE(recognise_chat_template("{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"));
  EXPECT_FALSE(recognise_chat_template("<|im_start|> without its end"));
  EXPECT_FALSE(recognise_chat_template(kChatml + kGemma2));                              // two at once
  EXPECT_FALSE(recognise_chat_template(kChatml + "<|im_sep|>"));                         // Phi-4
  EXPECT_FALSE(recognise_chat_template(kChatml + "<|im_start|>system\n## Metadata\n"));  // SmolLM3
}

TEST(ChatTemplate, Llama3) {
  const std::string head =
      "<|start_header_id|>user<|end_header_id|>\n\nHi you<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  EXPECT_EQ(rendered(kLlama3, " Hi you\n"), head);
  EXPECT_EQ(rendered(kLlama3, "Hi you", " Be brief. "),
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" + head);
  EXPECT_EQ(rendered(kLlama3, "Hi you", ""), "<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>" + head);
}

TEST(ChatTemplate, Llama31AlwaysHasASystemTurnWithItsDates) {
  const std::string dates =
      "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  const std::string turn =
      "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  EXPECT_EQ(rendered(kLlama31, "Hi"), dates + "<|eot_id|>" + turn);
  EXPECT_EQ(rendered(kLlama31, "Hi", "Be brief."), dates + "Be brief.<|eot_id|>" + turn);
}

TEST(ChatTemplate, Chatml) {
  const std::string turn = "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(rendered(kChatml, " Hi "), turn);  // nothing is trimmed
  EXPECT_EQ(rendered(kChatml, " Hi ", "Be brief."), "<|im_start|>system\nBe brief.<|im_end|>\n" + turn);
}

TEST(ChatTemplate, ChatmlsOwnSystemTurnWhereNoneIsGiven) {
  const std::string turn = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(rendered(kQwen25, "Hi"),
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n" + turn);
  EXPECT_EQ(rendered(kSmollm2, "Hi"),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" + turn);
  EXPECT_EQ(rendered(kQwen25, "Hi", "Be brief."), "<|im_start|>system\nBe brief.<|im_end|>\n" + turn);
}

TEST(ChatTemplate, GemmaPutsTheSystemTextBeforeTheUsers) {
  EXPECT_EQ(rendered(kGemma3, " Hi "), "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(rendered(kGemma3, "Hi", "Be brief."), "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(rendered(kGemma2, "Hi", "Be brief."), rendered(kGemma3, "Hi", "Be brief."));
  EXPECT_TRUE(read_chat_format(ChatTemplate::gemma, kGemma2).refuses_system);
  EXPECT_FALSE(read_chat_format(ChatTemplate::gemma, kGemma3).refuses_system);
}

TEST(ChatTemplate, HostileTextsAreOnlyLookedAt) {
  for (const std::string& text :
       {"{% for i in range(10**12) %}" + kChatml + "{% endfor %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + kChatml,
        std::string("\0\xFF\xC3", 3) + kChatml + std::string(1, '\0')}) {
    EXPECT_EQ(rendered(text, "Hi"), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  }
  std::string many = kChatml;
  while (many.size() < (1 << 20) - 64) many += "<|im_start|>system\n";
  EXPECT_EQ(rendered(many, "Hi"), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(recognise_chat_template(kChatml + std::string(100 << 20, '<')));
  const std::string escape = "'<|im_start|>system\\n\\x41<|im_end|>\\n'";  // an escape that is not known is no text of ours
  EXPECT_EQ(read_chat_format(ChatTemplate::chatml, escape).default_system, "");
}

/// Bytes, then BOS 256, EOS 257, and ChatML's markers from 258.
TestVocabulary chatml_vocabulary() {
  TestVocabulary v;
  v.add_bytes();
  v.data.bos = v.add("<s>", 0, kControl);
  v.data.eos = v.add("</s>", 0, kControl);
  v.add("<|im_start|>", 0, kControl);
  v.add("<|im_end|>", 0, kControl);
  v.data.add_space_prefix = false;
  return v;
}

Ids text_ids(std::string_view text) {
  Ids ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

Ids joined(const std::vector<Ids>& parts) {
  Ids all;
  for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST(ChatTemplate, SpecialTokensAndOneBosButNoEos) {
  auto v = chatml_vocabulary();
  const Ids turn = joined({{258}, text_ids("user\nHi"), {259}, text_ids("\n"), {258}, text_ids("assistant\n")});
  ChatFormat format;
  format.chat = ChatTemplate::chatml;
  v.data.add_eos = true;
  EXPECT_EQ(encode_chat(format, *v.make(), "Hi", {}), joined({{256}, turn}));
  v.data.add_bos = false;
  EXPECT_EQ(encode_chat(format, *v.make(), "Hi", {}), turn);
  format.writes_bos = true;
  EXPECT_EQ(encode_chat(format, *v.make(), "Hi", {}), joined({{256}, turn}));
  v.data.bos = 258;  // what the turn begins with already
  EXPECT_EQ(encode_chat(format, *v.make(), "Hi", {}), turn);
  for (const TokenId id : {257, 259}) EXPECT_TRUE(v.make()->ends_generation(id)) << id;
}

TEST(ChatTemplate, MissingMarkersAreText) {
  auto v = chatml_vocabulary();
  EXPECT_EQ(missing_markers(ChatTemplate::chatml, *v.make()), std::vector<std::string_view>{});
  v.types[259] = kNormal;
  EXPECT_EQ(missing_markers(ChatTemplate::chatml, *v.make()), std::vector<std::string_view>{"<|im_end|>"});
  EXPECT_EQ(missing_markers(ChatTemplate::gemma, *v.make()),
            (std::vector<std::string_view>{"<start_of_turn>", "<end_of_turn>"}));
  ChatFormat format;
  format.chat = ChatTemplate::gemma;
  EXPECT_EQ(encode_chat(format, *v.make(), "Hi", {}),
            joined({{256}, text_ids("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n")}));
}

class ChooseChat : public testing::Test {
 protected:
  ChatChoice choose(TestVocabulary vocabulary, const std::string* jinja, std::optional<ChatTemplate> wanted = {}) {
    test::GgufBytes bytes;
    bytes.string("general.architecture", "llama");
    if (jinja != nullptr) bytes.string("tokenizer.chat_template", *jinja);
    test::write_file(directory_.path() / "m.gguf", bytes.build());
    return choose_chat(*Gguf::open(directory_.path() / "m.gguf"), *vocabulary.make(), wanted);
  }
  test::TemporaryDirectory directory_;
};

TEST_F(ChooseChat, TheFilesOwnFirst) {
  const ChatChoice choice = choose(chatml_vocabulary(), &kGemma2);
  EXPECT_EQ(choice.format.chat, ChatTemplate::gemma);
  EXPECT_TRUE(choice.format.writes_bos);
  EXPECT_EQ(choice.source, ChatChoice::Source::file);
}

TEST_F(ChooseChat, WithoutOneByTheVocabulary) {
  const ChatChoice choice = choose(chatml_vocabulary(), nullptr);
  EXPECT_EQ(choice.format.chat, ChatTemplate::chatml);
  EXPECT_EQ(choice.source, ChatChoice::Source::vocabulary);
  auto both = chatml_vocabulary();
  both.add("<start_of_turn>", 0, kControl), both.add("<end_of_turn>", 0, kControl);
  test::expect_error([&] { choose(both, nullptr); },
                     {"m.gguf: has no chat template", "llama3, chatml, gemma; choose one with --chat-template"});
}

TEST_F(ChooseChat, TheOptionOverAll) {
  const std::string unknown = "[INST]";
  EXPECT_EQ(choose(chatml_vocabulary(), &unknown, ChatTemplate::chatml).format.chat, ChatTemplate::chatml);
  EXPECT_EQ(choose(chatml_vocabulary(), &kQwen25, ChatTemplate::llama3).format.chat, ChatTemplate::llama3);
  EXPECT_NE(choose(chatml_vocabulary(), &kQwen25, ChatTemplate::chatml).format.default_system, "");
  EXPECT_EQ(choose(chatml_vocabulary(), &kQwen25, ChatTemplate::chatml).source, ChatChoice::Source::option);
}

TEST_F(ChooseChat, AnUnknownTemplateIsQuoted) {
  const std::string text = "[INST]\n\"\xFF" + std::string("\0", 1) + std::string(200, 'x');
  test::expect_error([&] { choose(chatml_vocabulary(), &text); },
                     {"m.gguf: chat template \"[INST]\\n\\\"\\xff\\x00xxx",
                      "xxx…\" (210 bytes) is not known; known: llama3, chatml, gemma; "
                      "choose one with --chat-template"});
}

}  // namespace
}  // namespace greta
